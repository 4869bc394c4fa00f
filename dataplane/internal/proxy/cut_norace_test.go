//go:build !race

package proxy

// cutStride is the distance between the places at which a connection is cut.
const cutStride = 1

// The sizes of uploads: one that comes with its head, one that the sockets take, and one that they don't.
var uploadSizes = []int{2 << 10, 200 << 10, 20 << 20}
