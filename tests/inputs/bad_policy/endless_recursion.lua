<<<<<<< HEAD
local function down(n)
  return 1 + down(n + 1)
end
return {
  on_request = function() return down(1) end,
=======
local function down(...)
  return 1 + down(1, ...)
end
return {
  on_request = function() return down() end,
>>>>>>> policy
}
