-- For wrk: counts the answers that are of one version throughout, and those that are not.
local threads = {}

function setup(thread)
  table.insert(threads, thread)
end

function init()
  whole, broken, odd = 0, 0, ""
end

function response(status, _, body)
  local first, second = body:match("^version (%S+)\nversion (%S+)\n$")
  if status == 200 and first and first == second then
    whole = whole + 1
  else
    broken, odd = broken + 1, status .. " " .. body:sub(1, 60)
  end
end

function done(summary)
  local good, bad, last = 0, 0, ""
  for _, thread in ipairs(threads) do
    good, bad, last = good + thread:get("whole"), bad + thread:get("broken"), last .. thread:get("odd")
  end
  local errors = summary.errors
  io.write(string.format("\nCOUNT %d %d %d %s\n", good, bad,
    errors.connect + errors.read + errors.write + errors.timeout, last:gsub("%s", " ")))
end
