return {
  on_idle = function(model)
    return model
  end,
}
