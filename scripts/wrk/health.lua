-- The HTTP layer alone: GET /health on connections that are kept alive.
--
--   wrk -t1 -c32 -d3s -s scripts/wrk/health.lua http://127.0.0.1:8080
--
-- Compare with the least that the same libraries can do, in the same run:
--
--   build/server/bare-server 8079 & wrk -t1 -c32 -d3s http://127.0.0.1:8079
wrk.method = "GET"
wrk.path = "/health"
