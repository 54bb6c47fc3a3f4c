return {
  on_load = function(_, hub) return hub.evict("alpha") end,
}
