package main

import "context"

func (s *system) openPostgres(ctx context.Context, dsn string) (func(), error) { panic("later") }
