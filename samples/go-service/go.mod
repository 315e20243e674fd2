module example.org/infini-service

go 1.19

require example.org/infini v0.0.0

replace example.org/infini => ../../bindings/go
