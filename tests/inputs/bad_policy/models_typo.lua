return {
  models = { auto = { modle = 'alpha' } },
}
