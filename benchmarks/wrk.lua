-- wrk -s wrk.lua URL -- BODIES ["Name: value" ...]
-- Posts the lines of the file BODIES, one after another, with these headers.

local requests = {}
local next_one = 0

function init(args)
  local headers = { ["Content-Type"] = "application/json" }
  for place = 2, #args do
    local name, value = args[place]:match("^([^:]+):%s*(.*)$")
    headers[name] = value
  end
  for body in io.lines(args[1]) do
    requests[#requests + 1] = wrk.format("POST", nil, headers, body)
  end
end

function request()
  next_one = next_one % #requests + 1
  return requests[next_one]
end

function done(summary, latency)
  local errors = summary.errors
  print(string.format(
    '{"requests": %d, "seconds": %f, "p50": %f, "p99": %f, ' ..
    '"not_2xx": %d, "connect": %d, "read": %d, "write": %d, "timeout": %d}',
    summary.requests, summary.duration / 1e6,
    latency:percentile(50) / 1e6, latency:percentile(99) / 1e6,
    errors.status, errors.connect, errors.read, errors.write, errors.timeout
  ))
end
