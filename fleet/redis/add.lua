-- Adds failed logins to a counter, and returns its count and the milliseconds until its
-- window ends. KEYS[1] is a hash of at most 8 counters. ARGV: the field of the counter,
-- its window in milliseconds, the number of failed logins, and how many milliseconds ago
-- the first of them was.
local now = redis.call('TIME')
now = now[1] * 1000 + math.floor(now[2] / 1000)
local field, window, n, age = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])

-- Returns the begin and the count of a counter, or nil if its window is over, or begins
-- in the future because the clock was set back.
local function read(value)
	local start, count = string.match(value, '^(%d+):(%d+)$')
	start, count = tonumber(start), tonumber(count)
	if start and start <= now and now - start < window then
		return start, count
	end
end

local value, start, count = redis.call('HGET', KEYS[1], field), nil, nil
if value then
	start, count = read(value)
end
if age >= window then -- their window is over
	if start then
		return {count, start + window - now}
	end
	return {0, 0}
end
if not start then
	start, count = now - age, 0
end
count = math.min(count + n, 1000000000)

if not value and redis.call('HLEN', KEYS[1]) >= 8 then
	-- Without those whose windows are over, and then without those with the fewest
	-- failed logins; of these the oldest first.
	local all, counters = redis.call('HGETALL', KEYS[1]), {}
	for i = 1, #all, 2 do
		local s, c = read(all[i + 1])
		if s then
			table.insert(counters, {all[i], s, c})
		else
			redis.call('HDEL', KEYS[1], all[i])
		end
	end
	table.sort(counters, function(a, b)
		if a[3] ~= b[3] then return a[3] < b[3] end
		if a[2] ~= b[2] then return a[2] < b[2] end
		return a[1] < b[1]
	end)
	for i = 1, #counters - 7 do
		redis.call('HDEL', KEYS[1], counters[i][1])
	end
end
redis.call('HSET', KEYS[1], field, string.format('%.0f:%.0f', start, count))
redis.call('PEXPIRE', KEYS[1], window)
return {count, start + window - now}
