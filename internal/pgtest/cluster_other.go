//go:build !unix

package pgtest

import "testing"

const superuser = "postgres"

type tools struct{}

func startServer() (*Server, error) { return nil, errAbsent }

func (s *Server) remove() {}

// Stop, Restart and Kill exist where a server can be started.
func (s *Server) Stop(testing.TB)    {}
func (s *Server) Restart(testing.TB) {}
func (s *Server) Kill(testing.TB)    {}
