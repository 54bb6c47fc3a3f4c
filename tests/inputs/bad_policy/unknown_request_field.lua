return {
  on_request = function(req)
    if req.modle == "alpha" then return nil end
  end,
}
