return { on_idle = 5 }
