// Package proto carries the admin API's description.
package proto

import _ "embed"

// OpenAPI describes the REST calls of the admin API in OpenAPI 3.1, as JSON.
//
//go:embed openapi/openapi.json
var OpenAPI []byte

// OpenAPI30 is OpenAPI in the words of OpenAPI 3.0, for tools that don't read 3.1.
//
//go:embed openapi/openapi-3.0.json
var OpenAPI30 []byte
