

GET/2demo/1