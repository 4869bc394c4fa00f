package file

import (
	"bytes"
	"errors"
	"io"
	"testing"

	"go.yaml.in/yaml/v3"
)

// FuzzValues: whatever the reader takes has no more values than its signs allow.
func FuzzValues(f *testing.F) {
	for _, seed := range []string{
		"", "a", "a: b", "[[], [], {}]", "{a, b, c: d}", "[a: b, c: d]", "- - - a\n- b", "? a\n? b\n: c", "a:\nb:\n- c\n-\n-\td",
		"&a b: *a", "--- a\n--- b\n...\n", "a: |\n  b: [c]\n", "\"a, b\": 'c: d'", "a:\r- b\r- c", "-\t-\ta", "?\ta", "!!str : b",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		dec := yaml.NewDecoder(bytes.NewReader([]byte(text)))
		n := 0
		for {
			var root yaml.Node
			if err := dec.Decode(&root); err != nil {
				if !errors.Is(err, io.EOF) {
					return
				}
				break
			}
			n += nodes(&root) - 1 // a document is a node too
		}
		if most := 3*signs([]byte(text)) + 3; n > most {
			t.Errorf("%q has %d values; %d signs allow %d", text, n, signs([]byte(text)), most)
		}
	})
}

func nodes(n *yaml.Node) int {
	sum := 1
	for _, c := range n.Content {
		sum += nodes(c)
	}
	return sum
}
