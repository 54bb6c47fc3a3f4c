return {
  on_load = function(load, hub)
    return hub.alow()
  end,
}
