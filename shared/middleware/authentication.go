package middleware

import "gateway.internal/shared/match"

// excludePaths checks the paths that a step lets alone.
func (c *collector) excludePaths(paths []string) { c.paths("exclude_paths", paths) }

// paths checks a list of paths in the forms that routes have.
func (c *collector) paths(field string, paths []string) {
	_, errs := match.ParsePaths(field, paths)
	for _, e := range errs {
		c.fail(e.Field, e.Value, "%s", e.Message)
	}
}
