package main

import "testing"

// TestExplain needs no control plane.
func TestExplain(t *testing.T) {
	session(t, "explain",
		"explain -f testdata/explain.yaml http://shop.example/shop//cart?id=7",
		"explain -f testdata/explain.yaml POST /shop/cart -H Host:a.example --random 90",
		"explain -f testdata/explain.yaml /users/%41 -o yaml",
		"explain -f testdata/explain.yaml /users/7 -o json",
		"explain -f testdata/explain.yaml /users/7",
		"explain -f testdata/explain.yaml /shop/beta -H X-Version:2",
		"explain -f testdata/explain.yaml OPTIONS /users/7 -H Origin:https://app.example "+
			"-H Access-Control-Request-Method:PUT",
		"explain -f testdata/explain.yaml http://shop.example/old/7?x",
		"explain -f testdata/explain.yaml https://shop.example/",
		"explain -f testdata/explain.yaml OPTIONS *",
		"explain -f testdata/explain.yaml /shop/../users/7",
		"explain -f testdata/explain.yaml /shop/../users/7 --path-dot-segments normalise",
		"explain -f testdata/explain.yaml /nowhere",
		"explain -f testdata/explain.yaml shop",
		"explain -f testdata/explain.yaml ftp://shop/",
		"explain -f testdata/explain.yaml http://user@shop/",
		"explain -f testdata/explain.yaml G(T /",
		"explain -f testdata/explain.yaml / -H nothing",
		"explain -f testdata/explain.yaml / --port 65536",
		"explain -f testdata/explain.yaml / --path-encoded-nul normalise",
		"explain -f testdata/bad/meaning.yaml /",
		"explain -f testdata/unset.yaml /reports",
		"explain -f testdata/none.yaml /",
		"explain /",
		"explain -f testdata/explain.yaml",
	)
}
