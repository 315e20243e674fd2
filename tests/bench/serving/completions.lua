-- What wrk asks the services (wrk.sh): completions of prompts that differ, and at the end a row of a table.
wrk.method = "POST"
wrk.headers["Content-Type"] = "application/json"
wrk.headers["Authorization"] = "Bearer secret"

local threads = {}
function setup(thread) table.insert(threads, thread) end

function init()
  length, tokens = tonumber(os.getenv("PROMPT")), os.getenv("TOKENS")
  text = io.open(os.getenv("TEXT")):read("*a"):gsub("[^%w ,.;\n]", ""):gsub("\n", "\\n")
  asked, written, failed = 0, 0, 0
end

function request()
  asked = asked + 1
  local begin = asked * length % (#text - length)
  local prompt = text:sub(begin, begin + length):gsub("^n", ""):gsub("\\$", "")
  return wrk.format(nil, nil, nil, '{"prompt": "' .. prompt .. '", "max_tokens": ' .. tokens .. ', "temperature": 0}')
end

function response(status, headers, body)
  written = written + (tonumber(body:match('"completion_tokens": ?(%d+)')) or 0)
  if status ~= 200 then failed = failed + 1 end
end

function done(summary, latency)
  local written, failed = 0, 0
  for _, thread in ipairs(threads) do written, failed = written + thread:get("written"), failed + thread:get("failed") end
  local seconds, errors = summary.duration / 1e6, summary.errors
  print(string.format("| %s | %s | %.2f | %.1f | %.2f | %.2f | %d |", os.getenv("NAME"), os.getenv("CLIENTS_NOW"),
                      summary.requests / seconds, written / seconds, latency:percentile(50) / 1e6, latency:percentile(99) / 1e6,
                      failed + errors.connect + errors.read + errors.write + errors.timeout))
end
