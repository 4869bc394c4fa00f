package middleware

//go:generate go run gateway.internal/dataplane/internal/middleware/gen
