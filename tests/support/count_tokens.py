# Counts the tokens of each text of a JSON array on stdin by a tokenizer.json, without special tokens.
#
# usage: python count_tokens.py TOKENIZER_JSON

import json
import sys

from tokenizers import Tokenizer

tokenizer = Tokenizer.from_file(sys.argv[1])
for text in json.load(sys.stdin):
    print(len(tokenizer.encode(text, add_special_tokens=False).ids))
