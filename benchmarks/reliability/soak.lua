-- wrk script: a mix of requests over many sessions and model names, most of them unknown, at a held-back rate.
-- Arguments: KEY DELAY_MS NAMES
local paths = "/v1/chat/completions"
function init(args)
  key, pause_ms, names = args[1], tonumber(args[2]), tonumber(args[3])
  math.randomseed(tonumber(args[4]))
end

function delay()
  return pause_ms
end

function request()
  local draw, number = math.random(), math.random(names)
  local model, stream = "chat", "false"
  if draw < 0.2 then
    model = "unknown-" .. number
  elseif draw < 0.4 then
    model, stream = "talk", "true"
  elseif draw < 0.45 then
    model = "broken"
  end
  local body = string.format(
    '{"model": "%s", "stream": %s, "messages": [{"role": "user", "content": "question %d"}]}', model, stream, number)
  return wrk.format("POST", paths, {
    ["Content-Type"] = "application/json",
    ["Authorization"] = "Bearer " .. key,
    ["X-MCP-Session"] = "session-" .. math.random(names),
  }, body)
end

function done(summary, latency, requests)
  io.write(string.format('\n{"requests":%d,"duration_us":%d,"connect":%d,"read":%d,"write":%d,"status":%d,"timeout":%d}\n',
    summary.requests, summary.duration, summary.errors.connect, summary.errors.read,
    summary.errors.write, summary.errors.status, summary.errors.timeout))
end
