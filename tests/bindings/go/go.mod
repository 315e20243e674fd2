module example.org/infini-tests

go 1.19

require example.org/infini v0.0.0

replace example.org/infini => ../../../bindings/go
