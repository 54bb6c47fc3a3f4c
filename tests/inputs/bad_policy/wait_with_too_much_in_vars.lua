return {
  on_request = function(req, hub)
    req.vars.text = ("x"):rep(1 << 20)
    return hub.wait{ seconds = 1 }
  end,
}
