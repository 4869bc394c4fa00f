package exchange

import "unsafe"

// Text returns what was appended to Texts since it had a length, as a string that lives as long as the exchange.
func (x *Exchange) Text(since int) string {
	b := x.Texts[since:]
	return unsafe.String(unsafe.SliceData(b), len(b))
}

// Vary says that the response depends on a field of the request, unless it says so already (RFC 9110 section 12.5.5).
// All that it depends on is in one field then. The name has to live as long as the exchange.
func (x *Exchange) Vary(name string) {
	h := &x.Response.Header
	start, fields := len(x.Texts), 0
	for i := range h.fields {
		f := &h.fields[i]
		if len(f.Name) != len("Vary") || !EqualFold(f.Name, "Vary") {
			continue
		}
		if ListHas(f.Value, "*") || ListHas(f.Value, name) {
			x.Texts = x.Texts[:start]
			return
		}
		fields++
		if f.Value != "" {
			x.Texts = append(append(x.Texts, f.Value...), ", "...)
		}
	}
	if fields == 0 {
		h.Add("Vary", name)
		return
	}
	x.Texts = append(x.Texts, name...)
	h.Set("Vary", x.Text(start))
}
