-- Streamed answers: POST /v1/chat/completions with "stream": true. wrk sees an answer when it is
-- complete, so its latency is that of the whole stream; the tokens are counted from the events.
--
--   wrk -t1 -c8 -d30s --timeout 120s -s scripts/wrk/stream.lua http://127.0.0.1:8080 -- [max_tokens] [prompt]
local threads = {}

function setup(thread)
    table.insert(threads, thread)
end

local function quoted(text)
    return '"' .. text:gsub('[%c"\\]', function(c) return string.format("\\u%04x", c:byte()) end) .. '"'
end

function init(args)
    events, tokens, broken, refused = 0, 0, 0, 0
    local max_tokens = tonumber(args[1]) or 64
    local prompt = args[2] or "Write a function that reverses a string, and explain each line."
    wrk.method = "POST"
    wrk.path = "/v1/chat/completions"
    wrk.headers["Content-Type"] = "application/json"
    wrk.body = string.format('{"stream":true,"stream_options":{"include_usage":true},"max_tokens":%d,' ..
                             '"temperature":0,"messages":[{"role":"user","content":%s}]}',
                             max_tokens, quoted(prompt))
end

function response(status, headers, body)
    if status ~= 200 then
        refused = refused + 1
        return
    end
    local _, n = body:gsub("data: {", "")
    events = events + n
    tokens = tokens + (tonumber(body:match('"completion_tokens"%s*:%s*(%d+)')) or 0)
    if not body:find("data: [DONE]", 1, true) then
        broken = broken + 1
    end
end

function done(summary, latency, requests)
    local sum = {events = 0, tokens = 0, broken = 0, refused = 0}
    for _, thread in ipairs(threads) do
        for name in pairs(sum) do
            sum[name] = sum[name] + thread:get(name)
        end
    end
    local seconds = summary.duration / 1e6
    io.write(string.format("Streams: %d complete, %d without [DONE], %d refused\n",
                           summary.requests - sum.refused - sum.broken, sum.broken, sum.refused))
    io.write(string.format("Tokens:  %.1f generated/s in %.1f events/s\n", sum.tokens / seconds,
                           sum.events / seconds))
end
