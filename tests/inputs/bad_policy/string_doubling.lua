return {
  on_request = function()
    local text = "x"
    while true do text = text .. text end
  end,
}
