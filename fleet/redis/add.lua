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
	-- Remove those whose windows are over, and then those with the fewest failed logins,
	-- of these the oldest first, until there are 7.
	local all, counters = redis.call('HGETALL', KEYS[1]), {}
	for i = 1, #all, 2 do
		local s, c = read(all[i + 1])
		if s then
			counters[#counters + 1] = {all[i], s, c}
		else
			redis.call('HDEL', KEYS[1], all[i])
		end
	end
	while #counters > 7 do
		local least, at = counters[1], 1
		for i = 2, #counters do
			local c = counters[i]
			if c[3] < least[3] or c[3] == least[3] and (c[2] < least[2] or c[2] == least[2] and c[1] < least[1]) then
				least, at = c, i
			end
		end
		redis.call('HDEL', KEYS[1], least[1])
		table.remove(counters, at)
	end
end
redis.call('HSET', KEYS[1], field, string.format('%.0f:%.0f', start, count))
redis.call('PEXPIRE', KEYS[1], window)
return {count, start + window - now}
