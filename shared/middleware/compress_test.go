package middleware

import "testing"

func TestValidMediaRange(t *testing.T) {
	for s, want := range map[string]bool{
		"text/html": true, "text/*": true, "*/*": true, "application/*+json": true, "application/vnd.a+json": true,
		"": false, "text": false, "/": false, "text/": false, "/html": false, "*/html": false, "*": false,
		"*/*+json": false, "te*/html": false, "text/ht*": false, "text/**": false, "text/*json": false, "text/*+": false,
		"text/html; charset=utf-8": false, "text/html/x": false,
	} {
		if got := ValidMediaRange(s); got != want {
			t.Errorf("%q: %v", s, got)
		}
	}
}
