return {
  on_request = function()
    return io.open("/etc/passwd")
  end,
}
