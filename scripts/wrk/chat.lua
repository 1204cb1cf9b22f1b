-- Whole answers: POST /v1/chat/completions, one request at a time on each connection.
--
--   wrk -t1 -c8 -d30s --timeout 120s -s scripts/wrk/chat.lua http://127.0.0.1:8080 -- [max_tokens] [prompt]
--
-- Reports generated tokens per second, from the answers' usage, beside wrk's own figures.
local threads = {}

function setup(thread)
    table.insert(threads, thread)
end

local function quoted(text)
    return '"' .. text:gsub('[%c"\\]', function(c) return string.format("\\u%04x", c:byte()) end) .. '"'
end

function init(args)
    tokens, prompt_tokens, refused = 0, 0, 0
    local max_tokens = tonumber(args[1]) or 64
    local prompt = args[2] or "Write a function that reverses a string, and explain each line."
    wrk.method = "POST"
    wrk.path = "/v1/chat/completions"
    wrk.headers["Content-Type"] = "application/json"
    wrk.body = string.format('{"max_tokens":%d,"temperature":0,"messages":[{"role":"user","content":%s}]}',
                             max_tokens, quoted(prompt))
end

function response(status, headers, body)
    if status == 200 then
        tokens = tokens + (tonumber(body:match('"completion_tokens"%s*:%s*(%d+)')) or 0)
        prompt_tokens = prompt_tokens + (tonumber(body:match('"prompt_tokens"%s*:%s*(%d+)')) or 0)
    else
        refused = refused + 1
    end
end

function done(summary, latency, requests)
    local total, prompts, not_ok = 0, 0, 0
    for _, thread in ipairs(threads) do
        total = total + thread:get("tokens")
        prompts = prompts + thread:get("prompt_tokens")
        not_ok = not_ok + thread:get("refused")
    end
    local seconds = summary.duration / 1e6
    io.write(string.format("Answers: %d whole, %d refused\n", summary.requests - not_ok, not_ok))
    io.write(string.format("Tokens:  %.1f generated/s, %.1f prompt/s\n", total / seconds, prompts / seconds))
end
