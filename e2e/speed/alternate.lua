-- For wrk: sends several kinds of requests alternating, a tenth of a second each,
-- in the order 0 1 2 2 1 0, and prints a line for each tenth: the kind, and its
-- requests per second. The arguments are, for each kind, the path and the
-- Authorization header, empty for none.
local ffi = require("ffi")
ffi.cdef("typedef struct { long s; long ns; } moment; int clock_gettime(int, moment *);")
local monotonic, moment = 1, ffi.new("moment")

local function now()
	ffi.C.clock_gettime(monotonic, moment)
	return tonumber(moment.s) + tonumber(moment.ns) / 1e9
end

local thread
function setup(t)
	thread = t
end

local requests, order, position, begun, sent = {}, {}, 1, nil, 0
report = ""

function init(args)
	for i = 1, #args, 2 do
		local headers = { Host = wrk.headers["Host"] }
		if args[i + 1] ~= "" then
			headers["Authorization"] = args[i + 1]
		end
		table.insert(requests, wrk.format("GET", args[i], headers))
		table.insert(order, #requests)
	end
	for i = #requests, 1, -1 do
		table.insert(order, i)
	end
end

function request()
	local t = now()
	begun = begun or t
	if t - begun >= 0.1 then
		report = report .. string.format("%d %.1f\n", order[position] - 1, sent / (t - begun))
		position, begun, sent = position % #order + 1, t, 0
	end
	sent = sent + 1
	return requests[order[position]]
end

function done()
	io.write("alternating:\n", thread:get("report"))
end
