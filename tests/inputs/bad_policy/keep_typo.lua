return {
  on_idle = function(_, hub) return hub.keep({ second = 5 }) end,
}
