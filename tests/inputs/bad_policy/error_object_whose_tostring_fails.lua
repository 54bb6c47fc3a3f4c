local Problem = { __tostring = function() error("worse") end }
return {
  on_request = function()
    error(setmetatable({}, Problem))
  end,
}
