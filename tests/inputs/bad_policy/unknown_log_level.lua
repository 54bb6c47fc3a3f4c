return {
  on_load = function(load, hub)
    hub.log.warning("too much")
  end,
}
