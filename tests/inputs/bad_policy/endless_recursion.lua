local function down(...)
  return 1 + down(1, ...)
end
return {
  on_load = function() return down() end,
}
