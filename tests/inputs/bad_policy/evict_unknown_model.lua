return {
  on_load = function(_, hub) return hub.evict({ "alpah" }) end,
}
