// A Node app with plain `http`, as config.toml would start it: `node plain.js PORT`. Routes do what their names say.
'use strict'
const http = require('http')

function answer (response, text) {
  response.writeHead(200, { 'Content-Type': 'text/plain', 'Content-Length': Buffer.byteLength(text) })
  response.end(text)
}

const server = http.createServer((request, response) => {
  const url = new URL(request.url, 'http://localhost')
  const me = `${process.env.TRIAGE_INSTANCE} ${process.pid}`
  request.resume()
  request.on('end', () => {
    switch (url.pathname) {
      case '/block': // the event loop: no other request advances, and no signal handler runs
        for (;;) ;
      case '/exit':
        process.exit(3)
      case '/slow':
        setTimeout(() => answer(response, me), Number(url.searchParams.get('ms') || 1000))
        break
      default:
        answer(response, me)
    }
  })
})

process.on('SIGTERM', () => {
  server.close(() => process.exit(0))
  server.closeIdleConnections()
})

server.listen(Number(process.argv[2]), '127.0.0.1', () => console.log(`listening on ${process.argv[2]}`))
