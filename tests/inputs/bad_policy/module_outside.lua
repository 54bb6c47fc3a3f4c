local names = require("../names")
return {}
