package config

import (
	"fmt"
	"slices"
	"strings"
)

// TemplatePart is a literal or, when Param is set, the value of a path parameter.
type TemplatePart struct{ Literal, Param string }

// ParseTemplate takes a path such as "/v2/{id}/x" apart. Every parameter has to be one of known.
func ParseTemplate(path string, known []string) ([]TemplatePart, error) {
	var parts []TemplatePart
	for path != "" {
		i := strings.IndexByte(path, '{')
		if i != 0 {
			if i < 0 {
				i = len(path)
			}
			if strings.IndexByte(path[:i], '}') >= 0 {
				return nil, fmt.Errorf(`has a "}" without "{"`)
			}
			parts = append(parts, TemplatePart{Literal: path[:i]})
			path = path[i:]
			continue
		}
		end := strings.IndexByte(path, '}')
		if end < 0 {
			return nil, fmt.Errorf(`has a "{" without "}"`)
		}
		name := path[1:end]
		if !slices.Contains(known, name) {
			return nil, fmt.Errorf("uses {%s}, but the route's path has the parameters [%s]", name, strings.Join(known, " "))
		}
		parts = append(parts, TemplatePart{Param: name})
		path = path[end+1:]
	}
	return parts, nil
}
