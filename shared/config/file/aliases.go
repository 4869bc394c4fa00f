package file

import (
	"fmt"

	"go.yaml.in/yaml/v3"
)

const (
	// maxAliasBytes bounds what the aliases of all files that are read together stand for: a small file of aliases of
	// aliases must not become huge.
	maxAliasBytes = 16 << 20
	// aliasNodeBytes is what a value costs besides its text.
	aliasNodeBytes = 32
)

// aliases adds up what aliases stand for, before any of it is read.
type aliases struct {
	total int
	sizes map[*yaml.Node]int // of what has an anchor; 0: it is not known yet
}

// check reports, at the alias that is one too many, that the aliases of a document stand for too much. An anchor
// comes before its aliases, so that what an alias stands for has been measured, or is around the alias itself.
func (a *aliases) check(path string, root *yaml.Node, errs *Errors) bool {
	a.sizes = map[*yaml.Node]int{}
	_, at, message := a.size(root)
	if at != nil {
		errs.add(path, at.Line, at.Column, message)
	}
	return at == nil
}

// size returns the bytes that a node stands for, or the alias that is wrong with what is wrong.
func (a *aliases) size(n *yaml.Node) (int, *yaml.Node, string) {
	if n.Kind == yaml.AliasNode {
		size := a.sizes[n.Alias]
		if size == 0 {
			return 0, n, fmt.Sprintf("*%s is a part of what it stands for", n.Value)
		}
		if a.total += size; a.total > maxAliasBytes {
			return 0, n, fmt.Sprintf("*%s stands for %d bytes, with which all aliases stand for more than %d MiB; a value "+
				"counts %d bytes besides its text",
				n.Value, size, maxAliasBytes>>20, aliasNodeBytes)
		}
		return size, nil, ""
	}
	if n.Anchor != "" {
		a.sizes[n] = 0
	}
	size := aliasNodeBytes + len(n.Value)
	for _, c := range n.Content {
		part, at, message := a.size(c)
		if at != nil {
			return 0, at, message
		}
		size += part
	}
	if n.Anchor != "" {
		a.sizes[n] = size
	}
	return size, nil, ""
}
