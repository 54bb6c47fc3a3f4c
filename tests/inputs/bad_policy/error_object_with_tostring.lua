local Problem = { __tostring = function() return "a problem of mine" end }
return {
  on_request = function()
    error(setmetatable({}, Problem))
  end,
}
