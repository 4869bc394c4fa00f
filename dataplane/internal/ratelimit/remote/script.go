package remote

import (
	"strconv"

	goredis "github.com/redis/go-redis/v9"
)

// perKey is how many arguments the script has for each key, and answers how many numbers it returns for each.
const (
	perKey  = 9
	answers = 3
)

// script decides about all keys at once, by the server's time. Of each key the arguments are: the algorithm, limit,
// burst, the window in microseconds (0: by the calendar, from and until in microseconds since 1970), the cost, how it
// is decided, and for "give" how many microseconds ago at most the cost was taken: "all" takes the costs of all such
// keys or none; "dry" takes it where "all" have passed, "some" takes as much of it as there is; "none" takes nothing;
// "give" gives a cost back, where the window that it was taken in is not over. It returns of each key what was taken,
// what is left, and a time in microseconds, of longestWait at most: until a request like it may pass, where it did not;
// otherwise until left is what it is after a pause.
//
// Values are one to three numbers: of a token bucket the time when it is full again, in microseconds since 2025 (nearer
// times are more precise as floating-point numbers); of windows when the window has begun, what was counted in the one
// before (sliding), and in this one. Whatever else is found there is taken for nothing, and is overwritten; a time in
// the far future counts as an empty bucket. Each value ends by itself when it does not matter any more.
var script = goredis.NewScript(`
local time = redis.call('TIME')
local abs = tonumber(time[1]) * 1000000 + tonumber(time[2])
local now = abs - 1735689600000000
local state, refused = {}, false

local function numbers(key)
  local v = redis.pcall('GETRANGE', key, 0, 64)
  if type(v) ~= 'string' then return nil end
  local a, b, c = string.match(v, '^(%d+%.?%d*) ?(%d*) ?(%d*)$')
  return tonumber(a), tonumber(b), tonumber(c)
end

for i = 1, #KEYS do
  local at = (i - 1) * 9
  local s = {algorithm = ARGV[at + 1], limit = tonumber(ARGV[at + 2]), burst = tonumber(ARGV[at + 3]),
    window = tonumber(ARGV[at + 4]), from = tonumber(ARGV[at + 5]), till = tonumber(ARGV[at + 6]),
    cost = tonumber(ARGV[at + 7]), how = ARGV[at + 8], age = tonumber(ARGV[at + 9])}
  state[i] = s
  local a, b, c = numbers(KEYS[i])
  if s.algorithm == 'token_bucket' then
    s.unit = s.window / s.limit
    s.span = s.burst * s.unit
    s.full = math.min(math.max(a or 0, now), now + s.span)
    if s.how == 'give' then
      s.full = math.max(s.full - s.cost * s.unit, now)
      s.changed = a and a > now
    end
    s.room = math.floor((s.span - (s.full - now)) / s.unit + 0.00001)
    s.wait = s.full + s.cost * s.unit - now - s.span
    if s.how == 'none' then s.wait = s.full - now end
    if s.how == 'some' then s.wait = math.max(s.cost / 2, 1) * s.unit - (s.span - (s.full - now)) end
  else
    if s.window > 0 then
      s.from = math.floor(abs / s.window) * s.window
      s.till = s.from + s.window
    end
    local length = s.till - s.from
    s.before, s.count = 0, 0
    if a and a > s.from and a <= s.from + length * 2 then -- another node is in the next window
      s.till = s.till + a - s.from
      s.from = a
    end
    if a == s.from then
      s.before, s.count = b or 0, c or 0
    elseif a and a == s.from - length and s.algorithm == 'sliding_window' then
      s.before = c or 0
    end
    s.before, s.count = math.min(s.before, 1000000000), math.min(s.count, 1000000000)
    if s.how == 'give' and a == s.from and abs - s.age >= s.from then
      s.count = math.max(s.count - s.cost, 0)
      s.changed = true
    end
    s.wait = math.max(s.till - abs, 1000)
    local counted = s.count
    if s.algorithm == 'sliding_window' then
      local left = math.min(math.max(s.till - abs, 0), length)
      counted = counted + math.floor(s.before * left / length + 0.5)
      local free = s.limit - s.count - s.cost
      if s.how == 'some' then free = s.limit - s.count - 1 end
      if free >= 0 and s.before > 0 then
        s.wait = math.max(left - length * math.min((free + 0.5) / s.before, 1), 1000)
      elseif s.limit >= s.cost and s.count > 0 then
        s.wait = left + length - length * math.min((s.limit - s.cost + 0.5) / s.count, 1)
      end
      s.length = length
    end
    s.room = math.max(s.limit - counted, 0)
  end
  if s.how == 'all' and s.cost > s.room then refused = true end
end

local answer = {}
for i = 1, #KEYS do
  local s, took = state[i], 0
  if s.how == 'some' then
    took = math.min(s.cost, s.room)
  elseif (s.how == 'all' or s.how == 'dry') and not refused and s.cost <= s.room then
    took = s.cost
  end
  if took > 0 or s.changed then
    if s.algorithm == 'token_bucket' then
      s.full = s.full + took * s.unit
      s.wait = s.full - now
      redis.call('SET', KEYS[i], string.format('%.3f', s.full), 'PX', math.ceil((s.full - now) / 1000) + 1)
    else
      local ttl = math.max(s.till - abs, 1000) + (s.length or 0)
      redis.call('SET', KEYS[i], string.format('%.0f %.0f %.0f', s.from, s.before, s.count + took),
        'PX', math.ceil(ttl / 1000) + 1000)
      s.wait = math.max(s.till - abs, 1000)
    end
  end
  answer[i * 3 - 2], answer[i * 3 - 1] = took, s.room - took
  answer[i * 3] = math.min(math.ceil(math.max(s.wait, 0)), ` + strconv.FormatInt(longestWait.Microseconds(), 10) + `)
end
return answer`)
