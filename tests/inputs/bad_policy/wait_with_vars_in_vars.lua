return {
  on_request = function(req, hub)
    req.vars.again = req.vars
    return hub.wait{ seconds = 1 }
  end,
}
