return {
  on_request = function(req, hub)
    if req.model = "alpha" then return nil end
  end,
}
