return {
  on_request = function(req, hub)
    req.vars.later = { print }
    return hub.wait({ seconds = 1 })
  end,
}
