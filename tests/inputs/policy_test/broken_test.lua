test.case("never reached", function() end)
local x = = 1
