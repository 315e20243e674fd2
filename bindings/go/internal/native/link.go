package native

// #cgo pkg-config: infini
import "C"
