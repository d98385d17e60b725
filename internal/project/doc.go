// Package project holds the project to its own order: what may import what,
// what an exported name looks like, that the code shown in the documentation is
// code that is compiled. It has tests only.
//
// After a change of the public API the listing of it is written anew by
//
//	go test ./internal/project -run TestAPI -update
//
// and goes into the same commit, with a sentence in CHANGELOG.md.
package project
