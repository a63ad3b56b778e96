// Logs a request every now and then, in colours, some of them as errors.
const words = ['/', '/cart', '/items?page=2', '/login', '/app.css'];
let count = 0;
console.log('\x1b[1mlistening\x1b[0m on 127.0.0.1');
setInterval(() => {
  count++;
  const failed = count % 7 === 0, [colour, status] = failed ? [31, 500] : count % 3 ? [32, 200] : [33, 304];
  const say = failed ? console.error : console.log;
  say(`GET ${words[count % words.length]} \x1b[${colour}m${status}\x1b[0m ${(count * 37) % 41}.${count % 10} ms \x1b[2m#${count}\x1b[0m`);
  for (let end = Date.now() + (count * 13) % 60; Date.now() < end;);
}, 700);
