// Package proto carries the admin API's description.
package proto

import _ "embed"

// OpenAPI is the admin API's description in OpenAPI 2.0, as JSON. It describes each reply's data; every reply wraps it in the
// envelope of success, data, error and meta.
//
//go:embed openapi/gateway.swagger.json
var OpenAPI []byte
