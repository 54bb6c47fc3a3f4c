return {
  on_request = function(req)
    req.model = "beta"
  end,
}
