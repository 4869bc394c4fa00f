package compress

import (
	"strings"

	"gateway.internal/dataplane/internal/exchange"
)

// defaultTypes are the media types that are encoded where nothing else is said: those that become much smaller.
// Images, sound, films and archives are compressed as they are.
var defaultTypes = [...]string{
	"text/*",
	"application/json", "application/*+json", "application/x-ndjson", "application/jsonl",
	"application/xml", "application/*+xml", "image/svg+xml",
	"application/javascript", "application/x-javascript", "application/graphql", "application/yaml", "application/wasm",
	"font/ttf", "font/otf", "application/vnd.ms-fontobject",
}

// mediaRange is a media type, or a pattern of some.
type mediaRange struct {
	kind    string // before the slash; empty: any
	subtype string // after it; empty: any that ends in suffix
	suffix  string // such as "+json"
}

// compileRange reads what middleware.ValidMediaRange has passed.
func compileRange(s string) mediaRange {
	var r mediaRange
	r.kind, r.subtype, _ = strings.Cut(s, "/")
	if r.kind == "*" {
		r.kind = ""
	}
	if suffix, any := strings.CutPrefix(r.subtype, "*"); any {
		r.subtype, r.suffix = "", suffix
	}
	return r
}

func (r *mediaRange) has(kind, subtype string) bool {
	switch {
	case r.kind != "" && !exchange.EqualFold(r.kind, kind):
		return false
	case r.subtype != "":
		return exchange.EqualFold(r.subtype, subtype)
	}
	n := len(subtype) - len(r.suffix)
	return n >= 0 && exchange.EqualFold(subtype[n:], r.suffix)
}

// encodes reports whether bodies with a Content-Type are encoded. Those of gRPC are not: their messages have codings
// of their own.
func (s *step) encodes(contentType string) bool {
	mediaType, _, _ := strings.Cut(contentType, ";")
	kind, subtype, ok := strings.Cut(strings.Trim(mediaType, " \t"), "/")
	if !ok || exchange.EqualFold(kind, "application") && len(subtype) >= 4 && exchange.EqualFold(subtype[:4], "grpc") {
		return false
	}
	for i := range s.types {
		if s.types[i].has(kind, subtype) {
			return true
		}
	}
	return false
}
