//go:build race

package proxy

// The race detector makes an exchange ten times dearer: it sees every fifth place of a cut. Every place is seen without
// it.
const cutStride = 5

var uploadSizes = []int{2 << 10, 200 << 10, 2 << 20}
