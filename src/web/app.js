// pmd's dashboard. What the daemon says is untrusted: it reaches the page as text, never as markup.
// Messages and the user change the state; `render` makes the page follow.

const EVERY = 2000, WINDOW = 3e5, POINTS = 300, LINES = 2000, EVENTS = 100, FEW = 40

const ui = {}, now = Date.now
for (const node of document.querySelectorAll('[id]')) ui[node.id] = node

let local = {}, session = {}
try { [local, session] = [localStorage, sessionStorage]; } catch {}

function el(tag, props, ...children) {
	const node = Object.assign(document.createElement(tag), props)
	node.append(...children)
	return node
}

function put(node, text) {
	if (node.textContent !== `${text}`) node.textContent = text
}

function write(texts) {
	for (const id in texts) put(ui[id], texts[id])
}

function hold(parent, keys, make) {
	const held = new Map(keys.map(key => [key, parent.held?.get(key) ?? make(key)])), nodes = [...held.values()]
	parent.held = held
	if (parent.children.length !== nodes.length || nodes.some((node, i) => node !== parent.children[i])) parent.replaceChildren(...nodes)
}

const list = (...parts) => parts.filter(Boolean).join(', ')
const clock = at => new Date(at).toTimeString().slice(0, 8)
const percent = (value = 0) => value.toFixed(1) + '%'
function size(bytes = 0) {
	let unit = 0
	for (; bytes >= 1000; unit++) bytes /= 1024
	return (unit ? bytes.toFixed(1) : bytes) + 'BKMGTP'[unit]
}
function lasting(ms) {
	const [d, h, m, s] = [864e5, 36e5, 6e4, 1e3].map(unit => Math.floor(ms / unit))
	return d ? `${d}d ${h % 24}h` : h ? `${h}h ${m % 60}m` : m ? m + 'm' : s ? s + 's' : ms + ' ms'
}

const procs = new Map(), host = { rings: { cpu: [], memory: [] } }, ticked = new Set(), folds = {}, seen = new Set()
let opened, armed, only = '', past = [], tab = local.tab ?? 'logs', [sort, down] = (local.sort ?? 'name').split(' ')

const all = () => [...procs.values()]
const target = () => all().filter(p => ticked.size ? ticked.has(p.id) : p.id === opened)
const word = p => p.busy || p.status
const label = p => p.many ? `${p.name}:${p.instance}` : p.name
const plural = list => list.length === 1 ? label(list[0]) : list.length + ' processes'

let due
function render() {
	due ??= setTimeout(() => {
		due = undefined
		for (const step of [tend, showTop, showList, showPane]) step()
	}, 50)
}
document.onclick = document.oninput = render
setInterval(render, 1000)

// ---- connection

const asked = new Map()
let socket, hello, serial = 0, tries = 0, lost, heard, reason, round = 0, measured, settled = 0, token = session.token || local.token || ''

function connect() {
	if (socket || ui.login.open) return
	const url = new URL('ws', location), secret = btoa(token).replaceAll('+', '-').replaceAll('/', '_').replaceAll('=', '')
	url.protocol = url.protocol.replace('http', 'ws')
	socket = new WebSocket(url, token ? ['pmd.v1', 'pmd.auth.' + secret] : [])
	socket.onmessage = ({ data }) => receive(JSON.parse(data))
	socket.onclose = closed
}

async function closed() {
	const early = !hello
	socket.onclose = null
	socket.close()
	socket = hello = measured = following = undefined
	lost ??= now()
	for (const done of asked.values()) done({ failure: 'connection lost' })
	asked.clear()
	if (ui.login.open) return
	// Only REST says why a WebSocket was refused.
	const { status } = early && await fetch('api/system', { headers: token && { Authorization: 'Bearer ' + token } }).catch(() => 0)
	if (status === 401) return signIn('not accepted')
	reason = status > 200 && `refused (${status})`
	setTimeout(connect, Math.min(1e4, 500 * 2 ** tries++) * (0.5 + Math.random() / 2))
}

document.onvisibilitychange = window.ononline = () => {
	heard = now()
	connect()
	render()
}

function signIn(why) {
	write({ why })
	ui.token.value = ''
	if (!ui.login.open) ui.login.showModal()
}
ui.login.onclose = () => {
	token = (ui.stay.checked ? local : session).token = ui.token.value
	connect()
}
ui.out.onclick = () => {
	local.token = session.token = token = ''
	procs.clear()
	signIn('')
	if (socket) closed()
}

const request = (type, data) => new Promise(done => {
	asked.set(++serial, done)
	socket.send(JSON.stringify({ type, data, id: serial }))
})

function receive({ type, data, timestamp, reply_to }) {
	heard = now()
	if (reply_to) asked.get(reply_to)(type === 'error' ? { failure: problem(data) } : data)
	else hear[type]?.(data, Date.parse(timestamp))
	asked.delete(reply_to)
	render()
}

const problem = ({ message, details }) => list(message, details?.why, details?.hint)

const hear = {
	hello(data) {
		if (data.access !== 'none') return greet(hello = data)
		signIn('')
		closed()
	},
	process_status(data, at) {
		const p = know(data)
		if (data.snapshot) return
		p.stale = true
		p.since = data.status === 'online' && at
		write({ said: `${label(p)} ${word(p)}` })
	},
	process_metrics({ processes }) {
		for (const data of processes) {
			const p = know(data)
			p.memory = data.memory_tree ?? data.memory
			p.since = data.uptime && now() - data.uptime
			sample(p, p)
		}
	},
	system_metrics(data) {
		sample(Object.assign(host, data), { cpu: data.cpu.usage, memory: data.memory.used })
	},
	process_event(data, at) {
		const { event, id } = data, p = procs.get(id)
		past = [...past, { ...data, at }].slice(-EVENTS)
		if (!p) return
		p.stale = true
		if (target().includes(p)) addLine(at, p, 'note', story(data))
		else if (/crashed|errored|unhealthy/.test(event)) toast(`${data.process} ${story(data)}`, id)
		if (event === 'deleted') forget(id)
	},
	health_update(data, at) {
		Object.assign(procs.get(data.id) ?? {}, { health: data.status })
		if (!data.snapshot) hear.process_event({ ...data, event: data.status }, at)
	},
	log_message({ id, process, stream, message, backlog }, at) {
		if (backlog && at <= newest[id + stream]) return
		newest[id + stream] = at
		addLine(at, procs.get(id) ?? { id, name: process }, stream, message)
	},
	lagged({ dropped }, at) {
		if (dropped.log_message) addLine(at, {}, 'note', dropped.log_message + ' lines left out')
	},
}

async function greet() {
	if (lost) addLine(now(), {}, 'note', `no connection since ${clock(lost)}`)
	lost = undefined
	tries = 0
	round++
	await request('subscribe', { events: ['process_status', 'process_event', 'health_update'] })
	// Who was not in the snapshots is gone.
	const { events = [] } = await request('get_events', { limit: EVENTS })
	past = events.slice(-EVENTS).map(event => ({ ...event, at: event.timestamp }))
	for (const p of all()) if (p.round !== round) forget(p.id)
}

function know(data) {
	const p = procs.get(data.id) ?? { rings: { cpu: [], memory: [] } }
	procs.set(data.id, p)
	return Object.assign(p, data, { round, status: data.status === 'restarting' ? 'waiting' : data.status })
}

function forget(id) {
	procs.delete(id)
	ticked.delete(id)
}

function sample({ rings }, values) {
	for (const key in rings) if (rings[key].push([now(), values[key]]) > POINTS) rings[key].shift()
}

function tend() {
	const { hidden } = document, silence = hidden ? 0 : now() - heard, events = ['process_metrics', 'system_metrics']
	if (!hello) return
	if (silence > 25e3) return closed()
	if (silence > 9e3) request('ping')
	const data = hidden ? { events } : { events, interval: EVERY }
	if (procs.size > FEW && !/cpu|memory/.test(sort)) data.processes = [...seen, opened].filter(id => procs.has(id))
	const wish = JSON.stringify(data)
	if (wish === measured || now() - settled < 500) return
	settled = now()
	measured = wish
	request(hidden ? 'unsubscribe' : 'subscribe', data)
}

const ending = d => d.signal ? 'killed by ' + d.signal : d.exit_code == null ? '' : 'exit ' + d.exit_code

function remark(p) {
	if (p.list || p.pid) return ''
	const { details, at } = past.findLast(({ id, event }) => id === p.id && event === 'crashed') ?? {}, left = at + details?.restart_in - now()
	return list(ending(p), left > 0 && `next try in ${lasting(left)}`, p.status !== 'stopped' && details?.last_output?.at(-1))
}

const story = ({ event, details: d }) => list(event.replaceAll('_', ' '), d.reason, ending(d),
	d.uptime != null && `after ${lasting(d.uptime)}`, d.restart_in > 0 && `restart in ${lasting(d.restart_in)}`,
	d.retries && `${d.consecutive_failures} of ${d.retries}`, d.limit && `${size(d.memory)} of ${size(d.limit)}`,
	d.startup_time >= 0 && `pid ${d.pid}`, d.fields, d.error ?? d.errno, d.last_output?.at(-1))

function toast(text, value) {
	ui.toasts.querySelector(`[value='${value}']`)?.remove()
	const box = el('button', { value, onclick() { open(value); box.remove(); } }, text)
	ui.toasts.append(box)
	setTimeout(() => box.remove(), 9000)
}

// ---- top

function showTop() {
	const { cpu, memory, load, disk } = host, counts = Object.groupBy(all(), word), state = hello ? 'live' : tries > 3 ? 'offline' : 'reconnecting'
	write({ link: list(state, hello && hello.access !== 'full' && 'read only', lost && `since ${clock(lost)}`, reason) })
	if (cpu) write({
		host: host.hostname, usage: `${percent(cpu.usage)}\n${cpu.cores} cores`, used: `${size(memory.used)}\nof ${size(memory.total)}`,
		load: `${load.one.toFixed(2)}\n${load.five.toFixed(2)}, ${load.fifteen.toFixed(2)}`,
		up: `${lasting(host.uptime)}\npmd ${lasting(host.daemon.uptime)}`,
	})
	if (disk) write({ disk: `${size(disk.used)}\nof ${size(disk.total)}` })
	document.body.className = state
	document.title = list(counts.errored && `(${counts.errored.length})`, host.hostname ?? 'pmd', !hello && state)
	ui.out.hidden = !token
	draw(ui.hostcpu, host.rings.cpu, 100)
	draw(ui.hostmemory, host.rings.memory, memory?.total)

	for (const chip of ui.chips.children) {
		const count = chip.value ? counts[chip.value]?.length : procs.size
		put(chip, `${count ?? 0} ${chip.value || 'in all'}`)
		chip.hidden = !count && only !== chip.value
		chip.ariaPressed = only === chip.value
	}
	const spaces = [...new Set(all().map(p => p.namespace))], chosen = ui.space.value
	hold(ui.space, ['', ...spaces], value => el('option', { value }, value || 'All namespaces'))
	ui.space.value = chosen
	ui.space.hidden = spaces.length < 2
}
const STATES = ['errored', 'waiting', 'stopping', 'starting', 'online', 'stopped']
for (const value of ['', ...STATES]) ui.chips.append(el('button', { value, className: value && 'badge ' + value }))
ui.chips.onclick = ({ target: { value } }) => only = value === only ? '' : value ?? only

// ---- list

const COLUMNS = {
	name: [label, p => list(p.list && `× ${p.list.length}`, !p.many && p.namespace !== 'default' && p.namespace), label],
	status: [word, remark, p => STATES.indexOf(p.status)],
	cpu: [p => p.pid && percent(p.cpu)],
	memory: [p => p.pid && size(p.memory)],
	uptime: [p => p.pid && p.since && lasting(now() - p.since)],
	restarts: [p => `${p.restarts}`],
	health: [p => p.health, , p => p.health ?? '~'],
	port: [p => p.port],
}
for (const value in COLUMNS) ui.head.append(el('th', { scope: 'col', className: value }, el('button', { value }, value)))
ui.head.onclick = ({ target: { value } }) => {
	if (!(value in COLUMNS)) return
	;[sort, down] = [value, sort === value && !down ? 'descending' : '']
	local.sort = `${sort} ${down}`
}

function order(a, b) {
	const [x, y] = [a, b].map(COLUMNS[sort][2] ?? (p => -p[sort] || 0))
	const by = x.localeCompare?.(y, undefined, { numeric: true }) ?? x - y
	return (down ? -by : by) || a.instance - b.instance
}

function sum(list) {
	const total = key => list.reduce((all, p) => all + (p[key] || 0), 0)
	return { ...list[0], id: '@' + list[0].name, list, many: false, busy: '', pid: total('pid'),
		status: STATES.find(name => list.some(p => p.status === name)),
		health: (list.find(p => p.health === 'unhealthy') ?? list[0]).health, cpu: total('cpu'), memory: total('memory'), restarts: total('restarts') }
}

const isFolded = group => folds[group.name] ?? group.list.length > 8
const groups = list => Object.values(Object.groupBy(list, p => p.name))

function showList() {
	const text = ui.filter.value.toLowerCase(), space = ui.space.value, focus = document.activeElement
	for (const list of groups(all())) for (const p of list) p.many = list.length > 1
	const shown = all().filter(p => (!only || word(p) === only) && (!space || p.namespace === space)
		&& list(label(p), p.namespace, word(p), p.health, p.port, p.pid).toLowerCase().includes(text))
	const units = groups(shown).map(list => list.length > 1 ? sum(list) : list[0])
	const plan = units.sort(order).flatMap(unit => [unit, ...unit.list && !isFolded(unit) ? unit.list.sort(order) : []])
	hold(ui.rows, plan.map(p => p.id), newRow)
	for (const p of plan) fill(ui.rows.held.get(p.id), p)
	for (const p of plan) if (!p.list && seen.has(p.id)) for (const canvas of ui.rows.held.get(p.id).querySelectorAll('canvas')) draw(canvas, p.rings[canvas.className])
	focus.focus({ preventScroll: true })
	for (const th of ui.head.children) th.ariaSort = th.className === sort ? down || 'ascending' : 'none'
	ui.all.checked = shown.length && shown.every(p => ticked.has(p.id))
	ui.all.onchange = () => tick(shown, ui.all)
}

function tick(list, { checked }) {
	for (const { id } of list) checked ? ticked.add(id) : ticked.delete(id)
}

const watcher = new IntersectionObserver(changes => {
	for (const { target, isIntersecting } of changes) isIntersecting ? seen.add(target.key) : seen.delete(target.key)
	render()
})

function newRow(key) {
	const box = el('input', { type: 'checkbox' }), row = el('tr', { key, box }, el('td', {}, el('label', {}, box)))
	for (const className in COLUMNS) {
		const [cell, first] = className === 'name' ? ['th', 'button'] : ['td', 'span']
		row.append(el(cell, { className, scope: 'row' }, el(first), el(className in host.rings ? 'canvas' : 'small', { className })))
	}
	watcher.observe(row)
	return row
}

function fill(row, p) {
	const known = row.p
	row.p = p
	row.box.checked = (p.list ?? [p]).every(p => ticked.has(p.id))
	row.box.ariaLabel = 'Select ' + label(p)
	row.className = `${p.many ? 'member' : ''} ${row.box.checked || !ticked.size && opened === p.id ? 'on' : ''}`
	if (known && !seen.has(p.id)) return
	for (const { className, children: [first, second] } of [...row.cells].slice(1)) {
		const [text, more] = COLUMNS[className]
		put(first, text(p) || '–')
		if (/status|health/.test(className)) first.className = text(p) && 'badge ' + text(p)
		if (more) put(second, more(p))
	}
	if (p.list) row.cells[1].firstChild.ariaExpanded = !isFolded(p)
}

ui.rows.onclick = ({ target }) => {
	const { p, box } = target.closest('tr')
	if (target === box) tick(p.list ?? [p], box)
	else if (target.contains(box)) return
	else if (p.list) folds[p.name] = !isFolded(p)
	else open(p.id)
}
document.onkeydown = event => {
	if (event.key === '/' && !event.target.matches('input')) ui.filter.focus()
	else if (event.key === 'Escape') ui.close.click()
	else return
	event.preventDefault()
}

// ---- pane

const ACTIONS = ['start', 'restart', 'reload', 'stop', 'delete', 'scale'], TABS = ['logs', 'details', 'events']
for (const key of ACTIONS) ui.number.before(ui[key] = el('button', { className: key, onclick: () => act(key) }))
for (const key of TABS) ui.tabs.append(ui[key].tab = el('button', { onclick() { local.tab = tab = key; } }, key))

function open(id) {
	ticked.clear()
	opened = id
	ui.show.click()
}
ui.show.onclick = () => {
	ui.pane.className = 'open'
	ui.pane.focus({ preventScroll: true })
}
ui.close.onclick = () => {
	ui.pane.className = ''
	ui.rows.held.get(opened)?.querySelector('button').focus()
	opened = undefined
	ticked.clear()
}

function showPane() {
	const on = target(), [p] = on, one = on.length === 1, rest = on.filter(p => /stopped|errored/.test(p.status)).length, view = one || p && tab !== 'details' ? tab : 'events'
	write({ title: p ? plural(on) : 'Events', show: ticked.size ? plural(on) : 'Events', pause: paused ? `Resume (${fresh.length})` : 'Pause',
		failure: [...new Set(on.map(p => p.failure))].join('\n').trim() })
	ui.actions.hidden = !p || hello?.access !== 'full'
	const not = { start: !rest, stop: rest === on.length, reload: rest === on.length, scale: on.some(q => q.name !== p.name) }
	for (const key of ACTIONS) {
		put(ui[key], armed === key ? `${key} ${plural(on)}?` : key)
		ui[key].disabled = not[key] || on.some(p => p.busy)
	}
	ui.one.hidden = !one
	ui.title.className = one ? 'badge ' + word(p) : ''
	if (one) {
		write({ facts: list(word(p), p.pid && `pid ${p.pid}, up ${COLUMNS.uptime[0](p)}`, p.restarts + ' restarts', p.health, remark(p)),
			cpunow: `${percent(p.cpu)} / ${percent(draw(ui.cpu, p.rings.cpu))}`, memorynow: `${size(p.memory)} / ${size(draw(ui.memory, p.rings.memory))}` })
	}
	ui.tabs.hidden = !p
	ui.details.tab.disabled = !one
	for (const key of TABS) {
		ui[key].hidden = key !== view
		ui[key].tab.ariaPressed = key === view
	}
	if (view === 'events') hold(ui.events, past.filter(({ id }) => !p || on.some(p => p.id === id)).reverse(), event => el('li', {},
		el('time', { title: new Date(event.at) }, clock(event.at)), el('b', { className: 'badge ' + event.event }, event.process), story(event)))
	if (view === 'details') details(p)
	follow(view === 'logs' ? on : [])
}

async function act(action) {
	const on = target(), [{ name }] = on
	if (armed !== action && (/stop|delete/.test(action) || action === 'restart' && on.length === procs.size)) {
		armed = action
		return setTimeout(() => armed = '', 5000)
	}
	armed = ''
	const data = { action, instances: +ui.number.value || undefined }
	if (action === 'scale') on.length = 1
	for (const p of on) Object.assign(p, { busy: action + '…', failure: '' })
	const lane = async () => {
		for (let p; p = on.shift(); render()) {
			const { results = [], warnings = [], failure } = await request('command', { ...data, process: action === 'scale' ? name : p.id })
			p.failure = [failure, ...results.map(r => r.error && problem(r.error)), ...warnings].filter(Boolean).join('\n')
			p.busy = ''
			if (p.failure && !target().includes(p)) toast(`${label(p)}: ${p.failure}`, p.id)
		}
	}
	for (let lanes = action === 'reload' ? 1 : 8; lanes--;) lane()
}

async function details(p) {
	if (!hello || ui.details.p === p && !p.stale) return
	ui.details.p = p
	p.stale = false
	const { processes: [info] = [{ config: {} }] } = await request('get_info', { process: p.id })
	if (ui.details.p !== p) return
	const { env, limits, interpreter, interpreter_args, script, args, ...config } = info.config, { scrollTop } = ui.details
	const date = at => at && new Date(at).toLocaleString(), lines = (list, text) => list?.map(item => `${date(item.at)}  ${text(item)}`).reverse().join('\n')
	const parts = {
		run: { command: [interpreter === 'none' ? '' : interpreter, interpreter_args, script, args].flat(), cwd: config.cwd, user: info.user,
			pid: info.pid, started: date(info.started_at), 'next run': date(info.next_run ?? info.retry_at), problem: info.error },
		past: { exits: lines(info.last_exits, exit => list(ending(exit), `after ${lasting(exit.uptime)}`)), stderr: info.last_output?.join('\n'),
			health: lines(past.filter(({ id, event }) => id === p.id && /health/.test(event)), story) },
		health: info.health_check, limits, files: info.logs, environment: env, configuration: config,
	}
	ui.details.replaceChildren(...Object.entries(parts).flatMap(([name, part]) => [el('h3', {}, name), el('dl', {},
		...Object.entries(part ?? {}).flatMap(([key, value]) => (value?.length ?? value) ? [el('dt', {}, key), el('dd', {}, value.join?.(' ') ?? (value.at ? value : JSON.stringify(value)))] : []))]))
	ui.details.scrollTop = scrollTop
}

// ---- logs

const ESCAPES = /\x1b\[([\d;]*)m|\x1b\[[ -?]*.|\x1b\].*?(\x07|\x1b\\)|[^\P{Cc}\t]/gu
let following, newest = {}, lines = [], fresh = [], paused = false

function follow(on) {
	const processes = on.map(p => p.id), key = processes.join(), events = ['log_message']
	if (hello && key !== (following ?? '')) {
		following = key
		if (key && ui.lines.key !== key) ui.clear.onclick(ui.lines.key = key)
		request(key ? 'subscribe' : 'unsubscribe', { events, processes, backlog: on.length > 1 ? 40 : 200 })
	}
	if (!paused && fresh.length) flush(on.length > 1)
}

function addLine(at, p, stream, message) {
	if (fresh.push({ at, p, stream, message }) > LINES) fresh.shift()
}

function flush(several) {
	const box = ui.lines, atEnd = box.scrollTop + box.clientHeight > box.scrollHeight - 30
	for (const { at, p, stream, message } of fresh.sort((a, b) => a.at - b.at)) {
		const name = el('b', {}, several && p.name ? label(p) + ' ' : '')
		name.style.color = `var(--a${1 + p.id % 6})`
		lines.push(box.appendChild(el('div', { className: stream }, el('time', {}, at ? clock(at) : ''), name, colours(message))))
	}
	fresh = []
	for (const node of lines.splice(0, lines.length - LINES)) node.remove()
	ui.grep.oninput()
	if (atEnd) box.scrollTop = box.scrollHeight
}

function colours(text) {
	const all = el('span')
	let style = {}, at = 0
	for (const found of [...text.matchAll(ESCAPES), { index: text.length, 0: '' }]) {
		Object.assign(all.appendChild(el('span', {}, text.slice(at, found.index))).style, style)
		at = found.index + found[0].length
		const codes = found[1]?.split(';').map(Number) ?? []
		for (let code; (code = codes.shift()) !== undefined;) {
			const side = code % 60 < 40 ? 'color' : 'backgroundColor', n = code % 10
			if (code === 0) style = {}
			else if (code < 30) Object.assign(style, { fontWeight: code === 1 ? 700 : '', opacity: code === 2 ? 0.7 : '' })
			else if (n < 8) style[side] = `var(--a${n})`
			else style[side] = n === 9 ? '' : codes.shift() === 2 ? `rgb(${codes.splice(0, 3)})` : palette(codes.shift())
		}
	}
	return all
}

const palette = n => n < 16 ? `var(--a${n % 8})` : n > 231 ? '' : `rgb(${[36, 6, 1].map(unit => Math.floor((n - 16) / unit) % 6 * 51)})`

ui.grep.oninput = () => {
	const text = ui.grep.value.toLowerCase()
	for (const node of lines) node.hidden = !node.textContent.toLowerCase().includes(text)
}
ui.clear.onclick = () => {
	lines = []
	fresh = []
	newest = {}
	ui.lines.replaceChildren()
}
ui.pause.onclick = () => ui.pause.ariaPressed = paused = !paused
ui.wrap.onclick = () => ui.wrap.ariaPressed = ui.lines.classList.toggle('wrap')
ui.wrap.onclick()
ui.copy.onclick = () => {
	getSelection().selectAllChildren(ui.lines)
	document.execCommand('copy')
}
ui.save.onclick = () => {
	const text = lines.filter(node => !node.hidden).map(node => node.textContent + '\n')
	el('a', { href: URL.createObjectURL(new Blob(text)), download: plural(target()) + '.log' }).click()
}

function draw(canvas, ring, least = canvas.className === 'cpu' ? 10 : 1e6) {
	const { clientWidth: w, clientHeight: h } = canvas, c = canvas.getContext('2d'), start = now() - WINDOW, ratio = devicePixelRatio
	if (canvas.last === ring.at(-1)) return canvas.top
	const top = canvas.top = Math.max(least, ...ring.map(([at, value]) => at > start ? value * 1.15 : 0))
	canvas.last = w && ring.at(-1)
	canvas.width = w * ratio
	canvas.height = h * ratio
	c.scale(ratio, ratio)
	c.fillStyle = c.strokeStyle = getComputedStyle(canvas).color
	c.lineWidth = 1.5
	c.globalAlpha = 0.15
	let before, left
	for (const [at, value] of ring) {
		const x = Math.round((at - start) / WINDOW * w), y = h - 1 - value / top * h
		if (at - before < 4 * EVERY) {
			c.lineTo(x, y)
			c.fillRect(left, y, x - left, h)
		} else c.moveTo(x, y)
		;[before, left] = [at, x]
	}
	c.globalAlpha = 1
	c.stroke()
	return top
}

ui.theme.value = local.theme ?? ''
ui.theme.onchange = () => local.theme = ui.theme.value
connect()
